"""From a prompt to its groups, things with their modifiers, as spans of characters."""
