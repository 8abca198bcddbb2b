from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Answer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("question", models.TextField()),
                ("text", models.TextField(blank=True)),
                ("model", models.CharField(blank=True, max_length=100)),
                ("seconds", models.FloatField(null=True)),
                ("asked", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
