mod command;
mod forms;
mod layout;
mod mongorestore;
mod writers;
