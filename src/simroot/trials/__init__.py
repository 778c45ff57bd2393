"""Many trainings that belong together: found where they were made before, resumed or begun, and reported."""
