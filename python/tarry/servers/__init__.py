"""What belongs to one server, such as gunicorn."""
