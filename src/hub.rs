//! Model name → local folder: `models/`, the Hugging Face cache, the hub; offline when told so.
