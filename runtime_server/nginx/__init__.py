"""nginx's configuration, rendered from the settings. Text in, text out: nothing here asks or changes anything."""
