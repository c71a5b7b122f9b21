//! Each actor alone, its siblings replaced by mailboxes that record, under a paused clock where no socket is needed.

mod flight;
