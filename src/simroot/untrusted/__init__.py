"""Files from anywhere, read without trust: bounded YAML and JSON, plain pickles, and the types of what they hold."""
