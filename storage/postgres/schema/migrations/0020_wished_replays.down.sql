DROP INDEX dead_letters_wished;
