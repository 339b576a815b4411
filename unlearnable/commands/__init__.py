"""The commands, a file each: the file name is the command's name, and `command` in it is what click runs."""
