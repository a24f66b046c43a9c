-- From format 1 to 2: fencing tokens.
alter table store add column tokens integer not null default 0;
create trigger store_tokens before update of tokens on store when new.tokens <> old.tokens + 1
begin select raise(abort, 'the record is append-only: tokens are counted one by one'); end;
