"""What is kept of tries and of sign-ins: limits, and logins with their risk, in memory."""
