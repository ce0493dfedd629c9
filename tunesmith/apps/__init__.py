"""Programs for trained models and preference data: chat, scoring with a reward model, and building preference pairs."""
