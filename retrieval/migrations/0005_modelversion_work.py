from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('retrieval', '0004_past_query_askers'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelversion',
            name='work',
            field=models.TextField(blank=True, help_text='What a worker does with it or is to do, or why that failed.'),
        ),
    ]
