-- Nothing to undo: a program of before finds them as unreadable as any of its day.
SELECT 1;
