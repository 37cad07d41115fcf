"""Looking at a network: what it costs, what each layer sees, takes and answers to."""
