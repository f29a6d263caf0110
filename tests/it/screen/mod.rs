mod expectations;
mod forms;
mod jobs;
mod moments;
mod schedules;
mod screens;
mod storage_check;
mod terminal;
