//! The engine that remembers TLS sessions for servers.
