mod expectations;
mod forms;
mod jobs;
mod moments;
mod schedules;
mod screens;
mod terminal;
mod trust;
