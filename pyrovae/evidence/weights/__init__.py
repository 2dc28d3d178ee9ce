"""What is computed from weighted points: moments, tails, draws and expectations."""
