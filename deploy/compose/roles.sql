-- Run once, when the database of docker-compose.yml is made.

-- The relay reads the log and, at its first start, the rows that are there already.
CREATE ROLE postrider LOGIN REPLICATION PASSWORD 'postrider';
GRANT pg_read_all_data TO postrider;

-- The registry keeps to a database of its own.
CREATE ROLE registry LOGIN PASSWORD 'registry';
CREATE DATABASE registry OWNER registry;
