// The rooms.
