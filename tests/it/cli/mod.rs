mod config_example;
mod main_job;
mod words;
