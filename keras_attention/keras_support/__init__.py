"""What depends on the backend, the version and the configuration of Keras."""
