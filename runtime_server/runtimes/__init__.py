"""What the service knows about runtimes: states, policy, starts, stops and the reconciler."""
