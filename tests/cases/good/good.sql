-- read as a template, in which each expression is bound
UPDATE orders SET note = {{ release }} WHERE note = 'it''s {not} one';
