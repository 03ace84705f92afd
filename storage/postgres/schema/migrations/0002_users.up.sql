-- Who people are. Secrets and sign-ins stand in tables of their own.

CREATE TABLE users (
    id uuid PRIMARY KEY,
    username text NOT NULL,
    display_name text NOT NULL,
    email text NOT NULL,
    role text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'moderator', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_username_key UNIQUE (username),
    CONSTRAINT users_email_key UNIQUE (email)
);

-- The demo user has no row among the credentials, so nobody can sign in as it.
INSERT INTO users (id, username, display_name, email)
VALUES ('00000000-0000-7000-8000-00000000d3b0', 'demo bot', 'Demo Bot', 'demo.bot@example.com');
