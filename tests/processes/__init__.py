"""Programs of ours in processes of their own, without importing everything anew for each."""
