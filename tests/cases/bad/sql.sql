SELECT 1;
UPDATE orders SET note = 'release {{ release }}';
COMMIT;
