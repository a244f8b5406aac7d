CREATE TABLE jobs (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
    id VARCHAR(32) NOT NULL, 
    revision INTEGER NOT NULL, 
    kind VARCHAR(16) NOT NULL, 
    status VARCHAR(16) NOT NULL, 
    model VARCHAR(128) NOT NULL, 
    prompt TEXT NOT NULL, 
    params JSON NOT NULL, 
    refs JSON NOT NULL, 
    mask VARCHAR(32), 
    warnings JSON NOT NULL, 
    policy JSON NOT NULL, 
    progress JSON, 
    error JSON, 
    attempts INTEGER NOT NULL, 
    owner VARCHAR(128), 
    idempotency_key VARCHAR(128), 
    body_sha256 VARCHAR(64), 
    lease_s FLOAT, 
    created_at FLOAT NOT NULL, 
    started_at FLOAT, 
    finished_at FLOAT, 
    expires_at FLOAT, 
    expired_at FLOAT, 
    UNIQUE (id)
);
CREATE INDEX jobs_active ON jobs (status, seq);
CREATE INDEX jobs_expiry ON jobs (expires_at);
CREATE INDEX jobs_idempotency ON jobs (idempotency_key);
CREATE TABLE images (
    id VARCHAR(32) NOT NULL, 
    job_id VARCHAR(32), 
    idx INTEGER NOT NULL, 
    width INTEGER NOT NULL, 
    height INTEGER NOT NULL, 
    bytes INTEGER NOT NULL, 
    sha256 VARCHAR(64) NOT NULL, 
    seed INTEGER, 
    format VARCHAR(8) NOT NULL, 
    created_at FLOAT NOT NULL, 
    expires_at FLOAT, 
    expired_at FLOAT, 
    PRIMARY KEY (id)
);
CREATE INDEX images_job ON images (job_id);
CREATE INDEX images_expiry ON images (expires_at);
CREATE INDEX images_created ON images (created_at);
CREATE TABLE measurements (
    id INTEGER NOT NULL, 
    model VARCHAR(128) NOT NULL, 
    what VARCHAR(16) NOT NULL, 
    pixels INTEGER NOT NULL, 
    seconds FLOAT NOT NULL, 
    at FLOAT NOT NULL, 
    PRIMARY KEY (id)
);
CREATE TABLE notes (
    "key" VARCHAR(64) NOT NULL, 
    value JSON NOT NULL, 
    PRIMARY KEY ("key")
);
