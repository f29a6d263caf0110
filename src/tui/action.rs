//! Everything a person can do with a key, as data: name, title, where it works, whether it changes anything.
//!
//! The keymap, the help, the palette and the line of keys are all made from this table.

/// Where an action works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    Global,
    List,
    Backups,
    Schedules,
    Storage,
    Services,
    Settings,
    Notifications,
    Report,
    Log,
    Moment,
}

impl Group {
    pub const ALL: [Self; 11] = [
        Self::Backups,
        Self::Schedules,
        Self::Storage,
        Self::Services,
        Self::Settings,
        Self::Notifications,
        Self::Report,
        Self::Log,
        Self::Moment,
        Self::List,
        Self::Global,
    ];

    /// The section of the keymap.
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::List => "list",
            Self::Backups => "backups",
            Self::Schedules => "schedules",
            Self::Storage => "storage",
            Self::Services => "services",
            Self::Settings => "settings",
            Self::Notifications => "notifications",
            Self::Report => "report",
            Self::Log => "log",
            Self::Moment => "moment",
        }
    }

    /// The heading in the help.
    pub fn title(self) -> &'static str {
        match self {
            Self::Global => "Everywhere",
            Self::List => "Lists and pages",
            Self::Backups => "Backups and jobs",
            Self::Schedules => "Schedules",
            Self::Storage => "Storage",
            Self::Services => "Services",
            Self::Settings => "Settings",
            Self::Notifications => "Notifications",
            Self::Report => "Reports",
            Self::Log => "Search in a page",
            Self::Moment => "Timeline of a restore",
        }
    }
}

macro_rules! actions {
    ($($action:ident $name:literal $group:ident $changes:literal $short:literal $title:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action { $($action),* }

        impl Action {
            pub const ALL: &'static [Self] = &[$(Self::$action),*];

            /// The key of the keymap file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$action => $name),* }
            }

            pub fn group(self) -> Group {
                match self { $(Self::$action => Group::$group),* }
            }

            /// Whether it writes anything: hidden and refused with `--read-only`.
            pub fn changes(self) -> bool {
                match self { $(Self::$action => $changes),* }
            }

            /// One word for the line of keys; empty: not shown there.
            pub fn short(self) -> &'static str {
                match self { $(Self::$action => $short),* }
            }

            /// A few words for help and palette.
            pub fn title(self) -> &'static str {
                match self { $(Self::$action => $title),* }
            }
        }
    };
}

actions! {
    CreateBackup "create_backup" Backups true "new" "Create a backup";
    Restore "restore" Backups true "restore" "Restore the selected backup";
    Verify "verify" Backups true "verify" "Verify the selected backup: read everything back";
    DeleteBackup "delete_backup" Backups true "delete" "Delete the selected backup";
    CancelJob "cancel_job" Backups true "cancel" "Cancel the selected job";
    RetryJob "retry_job" Backups true "retry" "Retry the selected failed job";
    Pin "pin" Backups true "pin" "Pin or unpin the selected backup, so that nothing removes it";
    CopyName "copy_name" Backups false "copy" "Copy the name of the selected backup";
    FollowLog "follow_log" Backups false "" "Follow the log of the page to its end, as it grows";

    CreateSchedule "create_schedule" Schedules true "new" "Create a schedule";
    EditSchedule "edit_schedule" Schedules true "edit" "Edit the selected schedule";
    SwitchSchedule "switch_schedule" Schedules true "on/off" "Switch the selected schedule on or off";
    RunSchedule "run_schedule" Schedules true "run" "Run the selected schedule now";
    Timeline "timeline" Schedules false "timeline" "Show or hide the timeline of the coming runs";
    CopySchedule "copy_schedule" Schedules true "copy" "Copy the selected schedule; the copy is off";
    RemoveSchedule "remove_schedule" Schedules true "delete" "Delete the selected schedule; its backups stay";
    RetryRun "retry_run" Schedules true "retry" "Retry the last run of the selected schedule, which failed";
    TimelineSpan "timeline_span" Schedules false "day/week" "Timeline of the coming day, or of the week";
    CopyScheduleName "copy_schedule_name" Schedules false "" "Copy the name of the selected schedule";

    AddStorage "add_storage" Storage true "add" "Add a storage location";
    EditStorage "edit_storage" Storage true "edit" "Edit the selected storage";
    TestStorage "test_storage" Storage false "test" "Test the selected storage: reach it, list, write, read, delete";
    SyncStorage "sync_storage" Storage true "sync" "Sync the selected storage: find backups this machine does not know";
    CheckStorage "check_storage" Storage false "check" "Check the selected storage: manifests against the objects";
    RemoveStorage "remove_storage" Storage true "remove" "Remove the selected storage from the list";
    CopyStorage "copy_storage" Storage false "copy" "Copy where the selected storage is";

    AddService "add_service" Services true "add" "Add a service";
    EditService "edit_service" Services true "edit" "Edit the selected service";
    RestoreService "restore_service" Services true "restore" "Restore the selected service to a point in time";
    TakeBase "take_base" Services true "base" "Take a base of point-in-time recovery now";
    CheckService "check_service" Services false "check" "Check the prerequisites of the selected service";
    RemoveService "remove_service" Services true "remove" "Remove the selected service from the list";
    CopyService "copy_service" Services false "copy" "Copy the name of the selected service";

    EditSetting "edit_setting" Settings true "change" "Change the selected setting";

    TestNotification "test_notification" Notifications true "test" "Send a notification as a test, and show what came of it";

    RepairStorage "repair_storage" Report true "repair" "Repair the checked storage: show what can be removed, and ask";
    CopyRemedy "copy_remedy" Report false "copy remedy" "Copy the selected remedy";

    NextHit "next_hit" Log false "next" "To the next line that holds what was looked for";
    PreviousHit "previous_hit" Log false "previous" "To the line before that holds it";

    SecondBack "second_back" Moment false "" "One second back";
    SecondOn "second_on" Moment false "second" "One second on";
    MinuteBack "minute_back" Moment false "" "One minute back";
    MinuteOn "minute_on" Moment false "min" "One minute on";
    HourBack "hour_back" Moment false "" "One hour back";
    HourOn "hour_on" Moment false "hour" "One hour on";
    DayBack "day_back" Moment false "" "One day back";
    DayOn "day_on" Moment false "day" "One day on";
    OldestMoment "oldest_moment" Moment false "" "The oldest moment that can be restored";
    NewestMoment "newest_moment" Moment false "" "The newest moment that can be restored";
    LandmarkBack "landmark_back" Moment false "" "Back to the next base, gap or restore";
    LandmarkOn "landmark_on" Moment false "jump" "On to the next base, gap or restore";
    Peak "peak" Moment false "peak" "To the second before most operations; again looks nearer";
    ZoomIn "zoom_in" Moment false "" "Look nearer at the time around the cursor";
    ZoomOut "zoom_out" Moment false "zoom" "Look at more of the time around the cursor";
    OtherZone "other_zone" Moment false "zone" "Times in UTC, or in the zone of the screen";
    CopyMoment "copy_moment" Moment false "copy" "Copy the moment, as the command line takes it";

    Open "open" List false "open" "Open the selected row";
    OpenService "open_service" List false "service" "Open the page of the service that this belongs to";
    Filter "filter" List false "filter" "Filter the list, or search in a page; ! in front inverts";
    InvertFilter "invert_filter" List false "" "Show what does not match the filter";
    Sort "sort" List false "sort" "Sort by the next column";
    ReverseSort "reverse_sort" List false "" "Reverse the order";
    Up "up" List false "" "One row up";
    Down "down" List false "" "One row down";
    Top "top" List false "" "First row";
    Bottom "bottom" List false "" "Last row";
    PageUp "page_up" List false "" "One page up";
    PageDown "page_down" List false "" "One page down";
    HalfUp "half_up" List false "" "Half a page up";
    HalfDown "half_down" List false "" "Half a page down";
    PreviousTab "previous_tab" List false "" "Tab to the left";
    NextTab "next_tab" List false "" "Tab to the right";

    ScreenBackups "screen_backups" Global false "" "Go to Backups";
    ScreenSchedules "screen_schedules" Global false "" "Go to Schedules";
    ScreenStorage "screen_storage" Global false "" "Go to Storage";
    ScreenSettings "screen_settings" Global false "" "Go to Settings";
    NextScreen "next_screen" Global false "" "Next screen";
    PreviousScreen "previous_screen" Global false "" "Previous screen";
    Messages "messages" Global false "messages" "Messages so far";
    Palette "palette" Global false "commands" "Find any action by name";
    Help "help" Global false "help" "Keys that work here";
    Back "back" Global false "" "Close one layer";
    Redraw "redraw" Global false "" "Draw the screen anew";
    Suspend "suspend" Global false "" "Suspend to the shell; fg comes back";
    Quit "quit" Global false "quit" "Quit; jobs go on";
}
