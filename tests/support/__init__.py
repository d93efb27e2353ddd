"""What tests share besides fixtures: small worlds and a driver kernel."""
