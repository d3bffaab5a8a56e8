"""One look at a model, without a script: `diagnose`, `assert_flows`, and `watching` a loop of the user's own."""
