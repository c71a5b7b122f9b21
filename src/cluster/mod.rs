//! All I/O with the Kubernetes API: the client and its deadlines, verbs, watches, events.
