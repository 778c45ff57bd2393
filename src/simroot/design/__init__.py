"""The most accurate network within a budget: budgets, families of every size, and the search among them."""
