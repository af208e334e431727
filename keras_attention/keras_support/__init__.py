"""What depends on the version and the configuration of Keras."""
