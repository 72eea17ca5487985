"""What a route does with a request besides sending it on: decisions, pure. In Envoy's usual order."""
