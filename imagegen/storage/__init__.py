"""The database in SQLite or Postgres: tables, migrations; the state folder's lock.

Belongs here: opening and checking the database. Not here: queries about jobs or pictures."""
