"""What tests share beside fixtures: small worlds and a driver kernel."""
