"""What differs between the methods of training, one module each. ``table.METHODS`` has them by the kind of objective."""
