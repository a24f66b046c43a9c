"""Schedules as whoever has a clock takes them: units of systemd, lines for cron."""
