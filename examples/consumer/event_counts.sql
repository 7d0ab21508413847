-- What the consumers make of events: how many there were of each key. One that counts twice shows.
CREATE TABLE event_counts (
    consumer text   NOT NULL,
    key      text   NOT NULL,
    events   bigint NOT NULL,
    PRIMARY KEY (consumer, key)
);
