"""Real servers, clients, browser and database, and the tests that need them."""
