"""How each host tokenises and encodes prompts; nothing is bound here."""
