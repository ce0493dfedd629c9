"""The methods of training, one module each; ``registry.METHODS`` has them by the kind of objective."""
