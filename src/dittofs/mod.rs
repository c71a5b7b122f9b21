//! All I/O with the DittoFS REST API: the client, its limits, and the session that keeps it logged in.
