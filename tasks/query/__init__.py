"""Questions to a workspace: SQL over its files, and four questions that need embeddings.

    table = sandbox.run_sql("coft-workspace", "select label, count(*) from labels group by 1")
    near = questions.similar("coft-workspace", "photos/cat.jpg", 10)
    print(output.to_text(near))

Results are Arrow tables. Files are read where they are; nothing is copied or written.
"""
