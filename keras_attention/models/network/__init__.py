"""From a config to the layers of a network, their initial weights, and the computations that several tasks share."""
