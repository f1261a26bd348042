"""The renderer of reports, its sections and its templates."""
