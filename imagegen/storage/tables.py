"""The tables of the database in the current schema. `migrations/` upgrades older schemas."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()
Large = BigInteger().with_variant(Integer(), "sqlite")
"""A whole number of up to 63 bits. SQLite's INTEGER has them, and only that type can be its row id."""


jobs = Table(
    "jobs",
    metadata,
    Column("seq", Large, primary_key=True, autoincrement=True),  # the order of arrival, never reused
    Column("id", String(32), nullable=False, unique=True),
    Column("revision", Integer, nullable=False, default=1),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("refs", JSON, nullable=False),
    Column("mask", String(32)),
    Column("warnings", JSON, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("engine_texts", JSON),  # schemas.EngineTexts; NULL in rows of schema 1
    Column("progress", JSON),
    Column("error", JSON),
    Column("attempts", Integer, nullable=False, default=0),
    Column("owner", String(128)),  # the token's name
    Column("idempotency_key", String(128)),
    Column("body_sha256", String(64)),
    Column("lease_s", Float),
    Column("preview", JSON),  # schemas.PreviewWish; NULL in rows of schema 3
    Column("draft", Boolean, nullable=False, default=False, server_default="0"),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("expires_at", Float),
    Column("expired_at", Float),  # not NULL: a tombstone, whose other columns are cleared
    sqlite_autoincrement=True,
)
Index("jobs_active", jobs.c.status, jobs.c.seq)
Index("jobs_expiry", jobs.c.expires_at)
Index("jobs_idempotency", jobs.c.idempotency_key)

images = Table(
    "images",
    metadata,
    Column("seq", Large, primary_key=True, autoincrement=True),  # the order of the list, never reused
    Column("id", String(32), nullable=False, unique=True),
    Column("job_id", String(32)),  # NULL: an upload
    Column("idx", Integer, nullable=False, default=0),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("seed", Large),
    Column("format", String(8), nullable=False, default="png"),
    Column("warnings", JSON),  # schemas.Warn of an upload; NULL in rows of schema 2
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),  # NULL: kept
    Column("expired_at", Float),
    Column("kept_at", Float),  # NULL: not kept
    Column("board", String(60)),  # of a kept picture; a board is what pictures name
    Column("note", Text),  # of a kept picture
    sqlite_autoincrement=True,
)
Index("images_job", images.c.job_id)
Index("images_expiry", images.c.expires_at)
Index("images_kept", images.c.kept_at)

webhooks = Table(  # one row for each job that has a webhook
    "webhooks",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text),  # NULL: no signature, or no attempt follows
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Float),  # of the next attempt, once the job has ended; NULL: none follows
    Column("delivered_at", Float),
    Column("error", Text),  # of the last attempt; NULL: none, or delivered
)
Index("webhooks_next", webhooks.c.next_at)

measurements = Table(
    "measurements",
    metadata,
    Column("id", Large, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False),
    Column("what", String(16), nullable=False),  # load · encode · tokens · step · decode · gap: see durations.What
    Column("pixels", Integer, nullable=False, default=0),
    Column("seconds", Float, nullable=False),
    Column("at", Float, nullable=False),
)

memory_needs = Table(  # what pictures took of the memory: see hardware/memory_needs.py
    "memory_needs",
    metadata,
    Column("id", Large, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False),
    Column("files_bytes", Large, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("mode", String(16), nullable=False),  # card · offload · stream · cpu
    Column("pixels", Integer, nullable=False),
    Column("bytes", Large, nullable=False),
    Column("failed", Boolean, nullable=False, default=False),
    Column("at", Float, nullable=False),
)

notes = Table(  # small JSON values: the idle policy's data, the schema's history
    "notes",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)
