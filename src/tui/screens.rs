//! The screens and their tabs, and how lists are sorted.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Screen {
    Backups,
    Schedules,
    Storage,
    Settings,
}

impl Screen {
    pub const ALL: [Self; 4] = [Self::Backups, Self::Schedules, Self::Storage, Self::Settings];

    pub fn title(self) -> &'static str {
        match self {
            Self::Backups => "Backups",
            Self::Schedules => "Schedules",
            Self::Storage => "Storage",
            Self::Settings => "Settings",
        }
    }
}

/// The lists and pages behind the tabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tab {
    Backups,
    Restores,
    Jobs,
    Schedules,
    Storages,
    Services,
    General,
    Notifications,
    Appearance,
    Keys,
    About,
}

impl Tab {
    pub const ALL: [Self; 11] = [
        Self::Backups,
        Self::Restores,
        Self::Jobs,
        Self::Schedules,
        Self::Storages,
        Self::Services,
        Self::General,
        Self::Notifications,
        Self::Appearance,
        Self::Keys,
        Self::About,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Backups => "All backups",
            Self::Restores => "Restores",
            Self::Jobs => "Jobs",
            Self::Schedules => "Schedules",
            Self::Storages => "Storage locations",
            Self::Services => "Services",
            Self::General => "General",
            Self::Notifications => "Notifications",
            Self::Appearance => "Appearance",
            Self::Keys => "Keys",
            Self::About => "About",
        }
    }

    /// The tabs of a screen.
    pub fn of(screen: Screen) -> &'static [Self] {
        match screen {
            Screen::Backups => &[Self::Backups, Self::Restores, Self::Jobs],
            Screen::Schedules => &[Self::Schedules],
            Screen::Storage => &[Self::Storages],
            Screen::Settings => {
                &[Self::Services, Self::General, Self::Notifications, Self::Appearance, Self::Keys, Self::About]
            }
        }
    }

    /// Whether rows can be selected in it.
    pub fn is_list(self) -> bool {
        self != Self::About
    }
}

/// The columns that backups and jobs can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    Age,
    Name,
    Service,
    State,
    Size,
}

impl SortKey {
    pub const ALL: [Self; 5] = [Self::Age, Self::Name, Self::Service, Self::State, Self::Size];

    pub fn word(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Name => "name",
            Self::Service => "service",
            Self::State => "state",
            Self::Size => "size",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    pub key: SortKey,
    pub reversed: bool,
}

impl Sort {
    /// As it is kept in the settings: `age`, `-size`.
    pub fn text(self) -> String {
        format!("{}{}", if self.reversed { "-" } else { "" }, self.key.word())
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (word, reversed) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
        SortKey::ALL.into_iter().find(|k| k.word() == word).map(|key| Self { key, reversed })
    }
}
