"""The application: routes, the gate before them, health, metrics, and the process that serves them."""
