mod by_engine;
mod cli;
mod kill;
mod moments;
mod slicing;
mod store;
mod watch;
