"""How it is run: plan, artifacts, evaluator, runner, executors, command line."""
