"""How is it measured? The agent, its channel, the schedule, the journal."""
