"""Where each reason code is yielded, which test breaks it, and the proof that this test notices when it is gone."""
